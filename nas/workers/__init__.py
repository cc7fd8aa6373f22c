"""Where evaluations run: in this process, in processes of their own on this machine, on a Ray cluster.

Each is an ``Executor``: it is given requests and gives results, and knows nothing of what they mean.
"""
