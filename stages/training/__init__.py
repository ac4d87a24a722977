"""Training: epochs, augmentation, optimizers, the fit loop, knowledge distillation, several devices."""
