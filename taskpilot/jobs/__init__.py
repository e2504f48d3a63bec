"""What a job is: the decorator, the folder of job files, and a job's parameters."""
