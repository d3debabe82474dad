"""What the datapath costs: a packet, a connection, a change of generation, memory.

packet_cost   BPF_PROG_TEST_RUN: nanoseconds a packet      ─┐
flip          filling a slot, and the store that flips      ├─ world: programs and maps, loaded
connect       real connections, beside nft and iptables     │
flows         events, from the kernel to a subscriber      ─┘
"""
