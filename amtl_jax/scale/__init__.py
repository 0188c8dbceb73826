"""Several devices: the mesh, where arrays lie on it, and several processes."""
