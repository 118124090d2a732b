"""The campaign of faults and kills: emulated benches and their hosts as processes of their own."""
