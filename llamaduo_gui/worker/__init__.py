"""The child process that does the work and the thread that supervises it."""
