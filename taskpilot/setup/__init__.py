"""Files that a user gets: a first job, crontab lines, systemd units, the stack's files."""
