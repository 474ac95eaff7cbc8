"""Container runtimes for rehearsals: podman-hpc, shifter and apptainer, held to the real ones' command lines.

Each reads its options as the real command does, refuses what that one refuses, in its words and with its exit code, and
looks whether what the payload will need is inside: the working directory, the binds' sources, what links lead to, the
variables. Then the payload runs on this machine as it is: there is no image, no isolation and no registry.
"""
