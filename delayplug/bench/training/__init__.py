"""Training one network.

Read `trainer.train` first. `training_module` holds the optimisers and the loss, `batches` draws the same batches on any
number of processes, `outcome` has the results.
"""
