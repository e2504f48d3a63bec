"""Tells people what happened: events of the record become incidents, incidents become notices, notices are sent until they arrive."""
