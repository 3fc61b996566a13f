"""Data of the sayclip demo, found by ``sayclip.load()`` when no bundle is named.

``bundle/`` is a bundle that knows emoji only, ``pictures/`` its library with ``captions.tsv``
(file, name, keywords separated by ``|``), ``queries/`` recorded spoken queries with ``queries.tsv`` (file, words said).
"""
