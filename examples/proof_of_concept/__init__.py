"""A proof of concept beside an application: its messages and results in a schema of their own, `poc`.

`docs/proof-of-concept.md` walks through it. Nothing of the application is changed; `clean` takes it away.

    export DATABASE_URL=postgresql://…
    PYTHONPATH=examples python -m proof_of_concept jobs
"""
