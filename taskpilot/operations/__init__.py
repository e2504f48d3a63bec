"""The verbs that the command line, the web and the engines share."""
