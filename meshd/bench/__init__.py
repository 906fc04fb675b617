"""`meshd bench`: what this machine and a mesh can do, measured."""
