"""The write operations that the command line, the web and the engines share: run, resume, cancel, approve, pause, prune."""
