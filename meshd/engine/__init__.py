"""From a graph to something that runs: compile over a planned arena, execute, measure, spread over cores."""
