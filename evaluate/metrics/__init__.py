"""One file per task: what is measured, as pure functions and as the task's protocol."""
