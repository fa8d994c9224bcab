"""The bundled network `shapes`: pictures (`draw`), layers (`network`) and training (`train`).

Nothing is imported here, so that the pictures can be drawn without torch.
"""
