"""plan -> review -> execute: proposes tasks for a request, has each one judged, and lets approved ones act through tools."""
