"""What the campaigns of t/crash share: mail whose fate is known beforehand, fault rules, and the account at the end."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "system"))
