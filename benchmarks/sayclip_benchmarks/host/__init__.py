"""What the machine is, what state it is in while it is measured, and what energy it takes."""
