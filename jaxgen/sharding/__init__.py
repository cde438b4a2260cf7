"""Ground floor: the mesh, the logical-axis rules, checks before compilation."""
