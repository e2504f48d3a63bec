"""What a job gets: each ask, call and step goes budget -> policy -> journal -> effect -> journal."""
