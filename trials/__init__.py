"""Trials: kills, damage, forks and interruptions by the thousand, and a count of everything that must never happen.

python -m trials --minutes 10            all trials, the time shared out between them
python -m trials --full                  as many attempts as a release must stand
python -m trials --only damage --seed 7  one of them, with other random choices
"""
