"""Real workers under faults by seed, and a checker that proves afterwards that nothing was lost.

    python3 dev.py chaos --minutes 10 --seed 1

Who publishes and who executes write down what they do in files outside the database (`journal.py`), the
faults are written down beside them, and `checker.py` compares the three.
"""
