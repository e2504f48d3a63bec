"""RunContext and its parts: each ask, call and step goes budget -> policy -> journal -> effect -> journal."""
