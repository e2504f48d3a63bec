"""plan -> review -> execute: proposes tasks for a request, reviews each one, and executes approved ones by tool calls."""
