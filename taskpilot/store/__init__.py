"""Tables, migrations and all queries: the only package with SQL."""
