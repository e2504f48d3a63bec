"""`@job`, the loading of job files, and the parameters of jobs."""
