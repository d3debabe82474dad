"""The language both programs speak: labels, rules, their meaning, bundles and flows.

Pure. Imports neither `reconciler` nor `nodeagent`; both import it.
"""
