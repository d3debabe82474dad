"""What authors say must hold: who reaches whom, and who does not; held by `tidegate test`."""
