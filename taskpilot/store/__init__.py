"""Tables, migrations and all queries: the only room with SQL."""
