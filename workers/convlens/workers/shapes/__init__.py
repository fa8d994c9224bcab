"""The bundled network `shapes`: pictures (`draw`), layers (`network`) and training (`train`);
and `shapes-shortcut`, which looks at a marker instead (`shortcut`, `train_shortcut`).

Nothing is imported here, so that the pictures can be drawn without torch.
"""
