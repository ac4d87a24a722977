"""What a model looks at: occlusion maps, the first filters."""
