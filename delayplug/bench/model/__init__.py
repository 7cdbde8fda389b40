"""The paper's network (Hammouamri et al., ICLR 2024) with the neurons of any toolkit.

Read `network.DelayNetwork` first; `synapses` has the weights and delays between two layers of neurons.
"""
