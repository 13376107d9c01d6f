/* The little of the kernel's interface to its programs that ours needs: no header of another package, so
 * that the object depends on the compiler alone. Numbers are those of the kernel's uapi. */
#pragma once

#include "abi.h"

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))

/* Descriptions of maps, as loaders read them from type information. */
#define UINT(name, value) int(*name)[value]
#define TYPE(name, type) type *name

enum map_type { MAP_HASH = 1, MAP_ARRAY = 2, MAP_PROGRAMS = 3, MAP_SOCKETS = 15, MAP_RINGS = 17 };

/* Its memory can be mapped into a process. */
#define MAP_MMAPABLE (1 << 10)

enum verdict { XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT };

struct xdp_md {
	u32 data;
	u32 data_end;
	u32 data_meta;
	u32 ingress_ifindex;
	u32 rx_queue_index;
	u32 egress_ifindex;
};

/* What a program sees of a packet behind the driver, as far as ours looks. */
struct sk_buff {
	u32 len;
	u32 pkt_type;
	u32 mark;
	u32 queue_mapping;
	u32 protocol;
	u32 vlan_present;
	u32 vlan_tci;
	u32 vlan_proto;
	u32 priority;
	u32 ingress_ifindex;
	u32 ifindex;
	u32 tc_index;
	u32 cb[5];
	u32 hash;
	u32 tc_classid;
	u32 data;
	u32 data_end;
	u32 napi_id;
	u32 family;
	u32 remote_ip4;
	u32 local_ip4;
	u32 remote_ip6[4];
	u32 local_ip6[4];
	u32 remote_port;
	u32 local_port;
	u32 data_meta;
	u64 flow_keys;
	u64 tstamp;
	u32 wire_len;
	u32 gso_segs;
	u64 sk;
	u32 gso_size;
};

AT(sk_buff, data, 76);
AT(sk_buff, gso_size, 176);

enum tc_verdict { TC_NEXT = -1, TC_DROP = 2 };

/* What a program sees that says which socket gets a datagram. Addresses are in network order, the local port
 * in the machine's. */
struct sk_lookup {
	u64 cookie;
	u32 family;
	u32 protocol;
	u32 remote_ip4;
	u32 remote_ip6[4];
	be16 remote_port;
	u16 zero;
	u32 local_ip4;
	u32 local_ip6[4];
	u32 local_port;
	u32 ingress_ifindex;
};

enum sk_verdict { SK_DROP, SK_PASS };
#define FAMILY_IPV6 10

static void *(*const map_lookup)(void *map, const void *key) = (void *)1;
static u32 (*const random)(void) = (void *)7;
static long (*const store_bytes)(struct sk_buff *ctx, u32 at, const void *bytes, u32 length, u64 flags) = (void *)9;
static u32 (*const processor)(void) = (void *)8;
static long (*const tail_call)(void *ctx, void *programs, u32 index) = (void *)12;
static long (*const vlan_push)(struct sk_buff *ctx, be16 type, u16 number) = (void *)18;
static long (*const vlan_pop)(struct sk_buff *ctx) = (void *)19;
static long (*const redirect)(u32 ifindex, u64 flags) = (void *)23;
static long (*const change_protocol)(struct sk_buff *ctx, be16 type, u64 flags) = (void *)31;
static long (*const pull_data)(struct sk_buff *ctx, u32 length) = (void *)39;
static long (*const redirect_map)(void *map, u32 key, u64 otherwise) = (void *)51;
static long (*const sk_release)(void *socket) = (void *)86;
static long (*const sk_assign)(struct sk_lookup *ctx, void *socket, u64 flags) = (void *)124;
static long (*const adjust_head)(struct xdp_md *ctx, int delta) = (void *)44;
static long (*const adjust_room)(struct sk_buff *ctx, int delta, u32 where, u64 flags) = (void *)50;
/* CLOCK_MONOTONIC as of the last tick: never ahead of it. */
static u64 (*const coarse_ns)(void) = (void *)160;

#define HTONS(value) __builtin_bswap16(value)
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "HTONS is for little-endian machines");

struct ethernet {
	u8 to[6];
	u8 from[6];
	be16 type;
} __attribute__((packed));

/* What stands between Ethernet and IP in a VLAN. */
struct vlan {
	be16 number;
	be16 type;
} __attribute__((packed, aligned(2)));

struct ipv4 {
	u8 version_length;
	u8 class;
	be16 length;
	be16 id;
	be16 fragment;
	u8 hops;
	u8 protocol;
	u16 check;
	be32 from;
	be32 to;
} __attribute__((packed, aligned(2)));

struct ipv6 {
	/* Version, class and flow label. */
	be32 start;
	be16 length;
	u8 protocol;
	u8 hops;
	u8 from[16];
	u8 to[16];
} __attribute__((packed, aligned(2)));

struct udp {
	be16 from;
	be16 to;
	be16 length;
	u16 check;
} __attribute__((packed, aligned(2)));

struct channel_data {
	be16 number;
	be16 length;
} __attribute__((packed, aligned(2)));

#define HTONL(value) __builtin_bswap32(value)

#define ETHERNET_IPV4 HTONS(0x0800)
#define ETHERNET_IPV6 HTONS(0x86DD)
#define ETHERNET_VLAN HTONS(0x8100)
#define PROTOCOL_UDP 17
