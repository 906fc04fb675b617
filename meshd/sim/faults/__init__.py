"""What goes wrong, switched on by name. Each fault schedules itself over the first phase and counts when it really happened.

Rule 1: a fault that was asked for and never happened is a defect of the run, and reported.
Rule 2: all draws of one fault come from its own generator: switching one off leaves the others as they were (shrinking).
Rule 3: at the end of the phase `Course.calm` undoes what lasts; machines that are off are powered on again.

To add one: a function in one of these files and its line in `FAULTS`.
"""

from collections.abc import Callable
from typing import Final

from meshd.sim.faults import intruders, power, process, weather
from meshd.sim.faults.course import Course

__all__ = ["FAULTS", "NEED_DEPLOYMENTS", "Course"]

FAULTS: Final[dict[str, Callable[[Course, float], None]]] = {
    "crash": power.crash,
    "gone": power.gone,
    "no_disk": power.no_disk,
    "old_disk": power.old_disk,
    "flap": power.flap,
    "crash_loop": power.crash_loop,
    "planner_dies": power.planner_dies,
    "all_off": power.all_off,
    "stall": process.stall,
    "stall_input": process.stall_input,
    "stall_timers": process.stall_timers,
    "sleep": process.sleep,
    "skew": process.skew,
    "clock_jump": process.clock_jump,
    "disk_full": process.disk_full,
    "load_failure": process.load_failure,
    "loss": weather.loss,
    "burst": weather.burst,
    "delay": weather.delay,
    "reorder": weather.reorder,
    "duplicates": weather.duplicates,
    "corruption": weather.corruption,
    "lossy_node": weather.lossy_node,
    "split": weather.split,
    "three_ways": weather.three_ways,
    "isolate": weather.isolate,
    "one_way": weather.one_way,
    "flip_flop": weather.flip_flop,
    "clog": weather.clog,
    "no_links": weather.no_links,
    "slow_link": weather.slow_link,
    "replay": intruders.replay,
    "garbage": intruders.garbage,
    "strangers": intruders.strangers,
    "clone": intruders.clone,
    "wrong_key": intruders.wrong_key,
    "forged": intruders.forged,
    "deploys": intruders.deploys,
    "busy": intruders.busy,
    "hints": intruders.hints,
}
"""Faults by the name that `--faults` takes; those that take a number have one with `=`."""

NEED_DEPLOYMENTS: Final = ("planner_dies", "load_failure", "forged", "deploys")
"""These strike deployments."""
