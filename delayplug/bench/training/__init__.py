"""Training one network.

Read `trainer.train` first; `batches` draws the same batches on any number of processes.
"""
