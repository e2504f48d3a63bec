"""The jobs' schedules in the words of what else can wake them: crontab lines and systemd units."""
