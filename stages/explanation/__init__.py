"""What a model looks at: occlusion maps."""
