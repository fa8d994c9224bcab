"""The bundled network `shapes`: pictures (`draw`), layers (`network`) and training (`train`);
`shapes-shortcut`, which looks at a marker instead (`shortcut`, `train_shortcut`); and
`shapes-robust`, which is hard to fool (`train_robust`).

Nothing is imported here, so that the pictures can be drawn without torch.
"""
