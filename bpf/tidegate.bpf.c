// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The programs, of which two are on each pod's host-side interface. By the prefix of their names the agent
 * knows them from others' programs there.
 *
 *     pod ──▶ tg_from_pod (interface ingress = the pod's egress)  ──▶ node
 *     pod ◀── tg_to_pod   (interface egress  = the pod's ingress) ◀── node
 *
 * A packet that passes goes on to whatever filter stands behind ours; a refused one ends here.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "conntrack.h"
#include "delivery.h"
#include "direct.h"
#include "encryption.h"
#include "endpoints.h"
#include "established.h"
#include "events.h"
#include "fragments.h"
#include "lately.h"
#include "maps.h"
#include "neighbours.h"
#include "packet.h"
#include "policy.h"
#include "redirect.h"
#include "refusals.h"
#include "shadow.h"

/* Who the packet goes to, or comes from, seen from the pod. */
static __always_inline const struct tg_address *remote_of(const struct passage *passage)
{
	return passage->direction == TG_EGRESS ? &passage->packet.destination :
						 &passage->packet.source;
}

static __always_inline void ask_judge(struct passage *passage, const struct tg_address *remote,
				      __u16 port, __u8 protocol, __u8 direction)
{
	struct question ask = {
		.remote = *remote,
		.endpoint_id = passage->endpoint_id,
		.slot = passage->control.active,
		.port = port,
		.protocol = protocol,
		.direction = direction,
	};

	judge_lately(&ask, passage->control.revision, passage->now.tick, &passage->ruling);
	if (has_shadows(&passage->control))
		ask_shadows(passage, &ask);
}

/* The packet itself, for what has no flow or must not be taken for a reply. */
static __always_inline void judge_alone(struct passage *passage, __u16 port)
{
	ask_judge(passage, remote_of(passage), port, passage->packet.protocol, passage->direction);
}

/* Seen by this packet; of a service, by its answers. */
static __always_inline bool is_flow_tunnelled(const struct passage *passage)
{
	return passage->direction == TG_INGRESS ? is_marked(passage->skb, TG_MARK_DECRYPTED) :
						  is_behind_tunnel(passage->place);
}

static __always_inline void open_flow(struct passage *passage, const struct tg_conntrack_key *key,
				      bool is_half_open, __u32 bytes)
{
	const struct packet *packet = &passage->packet;
	struct tg_conntrack_entry entry = {
		.last_seen_ns = passage->now.ns,
		.forward_packets = 1,
		.forward_bytes = bytes,
		.direction = passage->direction,
		.forward_tcp_flags = packet->tcp_flags,
		.forward_awaits = packet->tcp_awaits,
	};

	passage->occasion = TG_OCCASION_NEW;
	judge_alone(passage, judged_port(key, passage->direction));
	if (passage->ruling.verdict == TG_REDIRECT && !has_proxy(passage))
		refuse(&passage->ruling, TG_DROP_NO_PROXY);
	if (!passes(passage->ruling.verdict))
		return;
	entry.judgement.revision = passage->control.revision;
	entry.judgement.verdict = passage->ruling.verdict;
	entry.judgement.proxy_port = passage->ruling.proxy_port;
	entry.cookie = passage->ruling.cookie;
	entry.flags = packet->streams && !packet->opens ? TG_CONNTRACK_ONE_WAY : 0;
	if (is_flow_tunnelled(passage))
		entry.flags |= TG_CONNTRACK_ENCRYPTED;
	if (opens_direct(passage))
		entry.flags |= TG_CONNTRACK_DIRECT;
	if (insert_entry(key, &entry, is_half_open))
		refuse(&passage->ruling, TG_DROP_CONNTRACK_INSERT);
	else if (passage->ruling.verdict == TG_REDIRECT)
		steer(passage, false, false);
}

/* The entry's verdict of today: judged again, in the entry's own direction, if the revision is
 * another. A denied entry stays, so that neither side can revive the flow. One that the proxy holds stays
 * there when it need not any more: nobody else could go on with its connection. */
static __always_inline void settle(struct passage *passage, const struct tg_conntrack_key *key,
				   struct tg_conntrack_entry *entry)
{
	struct tg_judgement judgement = load_judgement(entry);
	struct tg_judgement before = judgement;

	if (judgement.revision == passage->control.revision) {
		passage->ruling.verdict = judgement.verdict;
		passage->ruling.reason = judgement.reason;
		passage->ruling.proxy_port = judgement.proxy_port;
		passage->ruling.cookie = entry->cookie;
		return;
	}
	ask_judge(passage, &key->remote, judged_port(key, entry->direction), key->protocol,
		  entry->direction);
	if (before.verdict == TG_REDIRECT && passage->ruling.verdict == TG_ALLOW) {
		passage->ruling.verdict = TG_REDIRECT;
		passage->ruling.proxy_port = before.proxy_port;
	}
	judgement.revision = passage->control.revision;
	judgement.verdict = passage->ruling.verdict;
	judgement.reason = passage->ruling.reason;
	judgement.proxy_port = passage->ruling.proxy_port;
	entry->cookie = passage->ruling.cookie;
	if (judgement.verdict == TG_REDIRECT && judgement.proxy_port != before.proxy_port)
		cut_entry(entry);
	store_judgement(entry, judgement);
	if (judgement.verdict != before.verdict)
		passage->occasion = TG_OCCASION_REJUDGED;
}

static __always_inline void follow_flow(struct passage *passage, const struct tg_conntrack_key *key,
					struct tg_conntrack_entry *entry, bool is_half_open,
					__u32 bytes)
{
	bool is_reply = entry->direction != passage->direction;
	__u8 occasion, end = 0;

	passage->reply = is_reply ? TG_REPLY_YES : TG_REPLY_NO;
	settle(passage, key, entry);
	if (!passes(passage->ruling.verdict))
		return;
	if (passage->ruling.verdict == TG_REDIRECT)
		steer(passage, is_reply, entry->flags & TG_CONNTRACK_CUT);
	if (passage->redirect && passage->direction == TG_INGRESS && !is_reply)
		end = follow_opener(passage, entry);
	if (is_flow_tunnelled(passage))
		entry->flags |= TG_CONNTRACK_ENCRYPTED;
	passage->is_tunnelled = !!(entry->flags & TG_CONNTRACK_ENCRYPTED);
	follow_direct(passage, entry);
	occasion = touch_entry(entry, passage->now, bytes, &passage->packet, is_reply);
	occasion = end ? end : occasion;
	if (occasion && !passage->occasion) {
		passage->occasion = occasion;
		passage->closed = occasion == TG_OCCASION_CLOSED ? entry : NULL;
	}
	if (!is_reply && (entry->flags & TG_CONNTRACK_REPLIED) &&
	    !(entry->flags & TG_CONNTRACK_ESTABLISHED))
		establish_entry(key, entry, is_half_open);
}

static __always_inline void judge_flow(struct passage *passage, __u32 bytes)
{
	const struct packet *packet = &passage->packet;
	struct tg_conntrack_key key = {};
	struct tg_conntrack_entry *entry;
	bool is_half_open;

	conntrack_key(&key, passage->endpoint_id, packet, passage->direction);
	entry = find_entry(&key, passage->now.ns, packet->opens, &is_half_open);
	passage->reply = TG_REPLY_NO;
	if (!entry && packet->echo_reply) {
		/* Nobody asked: an answer opens no flow. */
		passage->occasion = TG_OCCASION_NEW;
		judge_alone(passage, packet->icmp_type);
	} else if (!entry && is_for_proxy(passage)) {
		send_back(passage);
	} else if (!entry || (packet->opens && !goes_on(entry, passage->direction))) {
		open_flow(passage, &key, is_half_open, bytes);
	} else if ((entry->flags & TG_CONNTRACK_ONE_WAY) && entry->direction != passage->direction &&
		   !is_redirected(entry)) {
		judge_alone(passage, judged_port(&key, passage->direction));
		if (passage->ruling.verdict == TG_REDIRECT)
			refuse(&passage->ruling, TG_DROP_NO_PROXY);
	} else {
		follow_flow(passage, &key, entry, is_half_open, bytes);
	}
}

/* Does the error speak of a packet that was let through, to who sent that packet? Without this,
 * path-MTU discovery fails. */
static __always_inline bool is_related(struct __sk_buff *skb, struct passage *passage,
				       const struct tg_endpoint *endpoint)
{
	bool out = passage->direction == TG_EGRESS;
	__u8 travelled = out ? TG_INGRESS : TG_EGRESS;
	struct tg_conntrack_key key = {};
	struct tg_conntrack_entry *entry;
	struct packet quoted = {};
	bool is_half_open;

	if (!parse_quoted(skb, &passage->packet, &quoted) ||
	    !same_address(&quoted.source, &passage->packet.destination) ||
	    !is_own_address(endpoint, out ? &quoted.destination : &quoted.source))
		return false;
	conntrack_key(&key, passage->endpoint_id, &quoted, travelled);
	entry = find_entry(&key, passage->now.ns, quoted.opens, &is_half_open);
	if (!entry && is_by_proxy(skb, &quoted)) {
		send_back(passage);
		return true;
	}
	if (!entry || ((entry->flags & TG_CONNTRACK_ONE_WAY) && entry->direction != travelled))
		return false;
	settle(passage, &key, entry);
	passage->occasion = 0;
	if (passage->ruling.verdict == TG_REDIRECT && is_by_proxy(skb, &quoted))
		send_back(passage);
	follow_direct(passage, entry);
	return passes(passage->ruling.verdict);
}

static __always_inline void judge_icmp(struct __sk_buff *skb, struct passage *passage,
				       const struct tg_endpoint *endpoint)
{
	if (passage->packet.kind == PACKET_ICMP_ERROR && is_related(skb, passage, endpoint))
		return;
	passage->occasion = TG_OCCASION_NEW;
	passage->reply = TG_REPLY_NO;
	judge_alone(passage, passage->packet.icmp_type);
}

/* Fill `passage->ruling`, or return why the packet is not even judged. */
static __always_inline __u8 judge_packet(struct __sk_buff *skb, struct passage *passage)
{
	const struct packet *packet = &passage->packet;
	const struct tg_endpoint *endpoint = endpoint_behind(pod_interface(skb));
	__u8 reason;

	reason = parse_packet(skb, &passage->packet);
	if (!endpoint)
		return TG_DROP_NO_ENDPOINT;
	passage->endpoint_id = endpoint->id;
	passage->local_identity = endpoint->identity;
	if (passage->direction == TG_EGRESS && !has_own_mac(skb, endpoint))
		return TG_DROP_INVALID_SOURCE_MAC;
	if (reason)
		return reason;
	if (packet->kind >= PACKET_ARP) {
		passage->ruling.verdict = TG_ALLOW;
		return packet->kind == PACKET_UNJUDGED ?
		       TG_FORWARDED :
		       check_neighbour(skb, &passage->packet, endpoint, passage->direction);
	}
	if (passage->direction == TG_EGRESS && !is_own_address(endpoint, &packet->source))
		return TG_DROP_INVALID_SOURCE_IP;
	if (!load_control(&passage->control) || passage->control.active == TG_NO_SLOT)
		return TG_DROP_NOT_READY;
	if (packet->fragment == FRAGMENT_LATER) {
		reason = recall_first(&passage->packet, passage->endpoint_id, passage->now.ns,
				      passage->direction);
		if (reason)
			return reason;
	}
	if (passage->encryption & TG_ENCRYPTION_ON)
		passage->place = find_place(remote_of(passage));
	if (packet->kind == PACKET_FLOW)
		judge_flow(passage, skb->len);
	else
		judge_icmp(skb, passage, endpoint);
	if (packet->fragment == FRAGMENT_FIRST && passes(passage->ruling.verdict) &&
	    remember_first(packet, passage->endpoint_id, passage->now.ns, passage->direction))
		return TG_DROP_CONNTRACK_INSERT;
	return TG_FORWARDED;
}

static __always_inline int enforce(struct __sk_buff *skb, __u8 direction)
{
	struct passage passage = {
		.skb = skb,
		.direction = direction,
		.now = read_clock(),
		.encryption = encryption_flags(),
	};
	__u8 reason = judge_packet(skb, &passage);

	if (!reason && passes(passage.ruling.verdict) && passage.packet.kind < PACKET_ARP &&
	    needs_securing(skb, direction, passage.redirect))
		reason = secure_by_place(skb, passage.place, direction, passage.encryption);
	if (reason)
		refuse(&passage.ruling, reason);
	if (passes(passage.ruling.verdict))
		passage.ruling.reason = TG_FORWARDED;
	count(passage.ruling.reason * 2 + direction, skb->len);
	if (!passes(passage.ruling.verdict)) {
		if (!passage.occasion)
			passage.occasion = TG_OCCASION_PACKET;
		if (!passage.ruling.remote_identity)
			passage.ruling.remote_identity = identity_of(remote_of(&passage));
	}
	/* A verdict that changed is told at once, whatever was told of the flow before. */
	if (!passes(passage.ruling.verdict) && passage.occasion != TG_OCCASION_REJUDGED)
		tell_refusal(&passage);
	else if (passage.occasion)
		emit(&passage);
	if (!passes(passage.ruling.verdict))
		return TC_ACT_SHOT;
	if (passage.redirect)
		return redirect(skb, passage.redirect);
	return passage.end && turn_to_end(skb, passage.end) ? GO_TO_END : TC_ACT_UNSPEC;
}

static __always_inline int pass_or_enforce(struct __sk_buff *skb, __u8 direction)
{
	int action;

	return pass_established(skb, direction, &action) ? action : enforce(skb, direction);
}

SEC("tc")
int tg_from_pod(struct __sk_buff *skb)
{
	int action;

	note_pod_interface(skb, skb->ifindex);
	action = pass_or_enforce(skb, TG_EGRESS);
	return action == GO_TO_END ? go_to_end(skb) : action;
}

SEC("tc")
int tg_to_pod(struct __sk_buff *skb)
{
	int action;

	if (!is_put_into_pod(skb))
		note_pod_interface(skb, skb->ifindex);
	action = pass_or_enforce(skb, TG_INGRESS);
	return action == TC_ACT_UNSPEC && is_put_into_pod(skb) ? enter_pod(skb) : action;
}

/* Ingress of a tunnel: what comes out of it was encrypted on the way. */
SEC("tc")
int tg_from_tunnel(struct __sk_buff *skb)
{
	put_mark(skb, TG_MARK_DECRYPTED);
	return TC_ACT_UNSPEC;
}

/* Egress of every device that is neither a pod's nor a tunnel. */
SEC("tc")
int tg_to_uplink(struct __sk_buff *skb)
{
	if (!(encryption_flags() & TG_ENCRYPTION_STRICT) || !is_pod_traffic(skb))
		return TC_ACT_UNSPEC;
	count(TG_DROP_UNENCRYPTED * 2 + TG_EGRESS, skb->len);
	return TC_ACT_SHOT;
}

/* Ingress of the same devices. What it marks is refused where it reaches a pod: there a flow can tell of it. */
SEC("tc")
int tg_from_uplink(struct __sk_buff *skb)
{
	if (!(encryption_flags() & TG_ENCRYPTION_STRICT) || admit_in_the_clear(skb))
		return TC_ACT_UNSPEC;
	count(TG_DROP_UNENCRYPTED * 2 + TG_INGRESS, skb->len);
	return TC_ACT_SHOT;
}

/* Ingress of the proxy's device: redirected packets, and nothing else. */
SEC("tc")
int tg_to_proxy(struct __sk_buff *skb)
{
	return deliver_or_drop(skb);
}

/* Run by the agent, not by packets: what nobody added to for a second would wait for ever. */
SEC("tc")
int tg_tell_refusals(struct __sk_buff *skb)
{
	(void)skb;
	sweep_refusals();
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
