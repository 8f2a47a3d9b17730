"""The networks that the method uses, and what loads them: proposals, captions, encoders.

A new network gets its name in one of three registries: `proposal_networks.PROPOSAL_NETWORKS`,
`captioners.CAPTIONERS` or `encoders.ENCODERS`. Nothing here knows about sentences or scores.
"""
