"""The controller's door: an agent for every queued build that waits for one of our labels. The map, in reading order.

catalog         what agents can be had: templates, and labels that name an image
demand          how many are wanted: waiting items against agents that no build has come to (pure)
failures        how long to wait after one that could not be had, and when to give up
provisioner     looks, counts, asks the store for what is missing, lets go of what is not wanted
view            what the controller last said, for all who act on it
agent_work      one agent's life, its node, its connection, its end (node, record; last_words: in words)
job_watch       the one build that came to it (missed_job: one that was over before a look could show it)
beginnings      noticing at once that a build came
remote          how an agent's node is on the controller; ownership: whose node it is
registration    the service's own node, which shows whether it is well
reconciler      nodes that nobody needs any more
outfit          Java and the agent program, kept up to date (training: letting a fresh one connect once)
resident        the service's own containers (plain_image: what they hold)
door            all of it, wired
"""
