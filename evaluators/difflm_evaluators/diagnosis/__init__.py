"""Where a generator loses fidelity: tables of its parts against real rows, with what the detector used."""
