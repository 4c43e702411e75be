"""Training: the LightningModule, its objective and the callbacks around it."""
