"""Running a graph: on this machine, behind a job server, on Dataflow; progress, interruption, supervision.
Uses Beam's runners and the graphs; nothing of the command line."""
