"""What `sayclip bench` times and how: candidates in processes of their own, in turns."""
