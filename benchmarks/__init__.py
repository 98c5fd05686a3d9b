"""What the kernels gain over what teams usually write, both on the same input, results compared first."""
