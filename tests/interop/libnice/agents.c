/*
 * Two libnice agents, each with relayed candidates only, that exchange numbered packets.
 *
 *   agents SERVER PORT RELAY SECONDS COUNT MODE USER PASSWORD MODE USER PASSWORD
 *
 * RELAY is udp, tcp or tls (which libnice speaks as pseudo-TLS to a server of this dialect); MODE
 * is oc2007r2 or rfc. Each agent sends COUNT packets to the other, evenly over SECONDS. At the end
 * a line for each agent says what it sent, received, missed and could not place:
 *
 *   agent=0 sent=10000 received=10000 missing=0 strange=0 checks=1
 *
 * Over TCP libnice hands a late connectivity check of the other agent on to its user now and then:
 * those are counted apart.
 *
 * Status 0: nothing is missing, nothing was strange. Agents of the two modes cannot judge each
 * other's connectivity checks, whose checksums differ, so a mixed pair is told to use its relays
 * without them.
 */
#include <nice/agent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STREAMS 1
#define COMPONENT 1
#define MARK 0x90 /* an RTP packet: what no STUN message starts with */
#define PACKET 172
#define COOKIE "\x21\x12\xa4\x42" /* of STUN */
#define TICK_MS 10
#define PATIENCE_S 20 /* for gathering and for checks, and for the last packets */

typedef struct {
  int number;
  NiceAgent *agent;
  guint stream;
  gboolean gathered, ready;
  guint sent, received, strange, checks;
  guint8 *seen;
} End;

static End ends[2];
static GMainLoop *loop;
static guint count;
static double seconds;
static gint64 began;
static guint patience;
static gboolean mixed;
static int open_agents = 2;
static int status = 1;

static NiceCompatibility mode (const char *name)
{
  return strcmp (name, "rfc") == 0 ? NICE_COMPATIBILITY_RFC5245 : NICE_COMPATIBILITY_OC2007R2;
}

static NiceRelayType relay_type (const char *name)
{
  if (strcmp (name, "udp") == 0)
    return NICE_RELAY_TYPE_TURN_UDP;
  return strcmp (name, "tcp") == 0 ? NICE_RELAY_TYPE_TURN_TCP : NICE_RELAY_TYPE_TURN_TLS;
}

static void closed (GObject *agent, GAsyncResult *result, gpointer data)
{
  if (--open_agents == 0)
    g_main_loop_quit (loop);
}

/* Says what came of it, and has the agents give their allocations back. */
static void report (void)
{
  static gboolean reported = FALSE;

  if (reported)
    return;
  reported = TRUE;
  status = 0;
  for (int i = 0; i < 2; i++) {
    End *end = &ends[i];
    guint missing = count - end->received;
    printf ("agent=%d sent=%u received=%u missing=%u strange=%u checks=%u\n", i, end->sent,
        end->received, missing, end->strange, end->checks);
    if (end->sent != count || missing != 0 || end->strange != 0)
      status = 1;
    nice_agent_close_async (end->agent, closed, end);
  }
  fflush (stdout);
}

static gboolean give_up (gpointer why)
{
  printf ("gave up: %s\n", (const char *) why);
  report ();
  status = 1;
  return G_SOURCE_REMOVE;
}

static gboolean tick (gpointer unused)
{
  double due = count * ((g_get_monotonic_time () - began) / 1e6) / seconds;
  gboolean done = TRUE;

  for (int i = 0; i < 2; i++) {
    End *end = &ends[i];
    while (end->sent < count && end->sent < due) {
      gchar packet[PACKET] = { 0 };
      guint32 number = GUINT32_TO_BE (end->sent);
      packet[0] = (gchar) MARK;
      packet[1] = (gchar) end->number;
      memcpy (packet + 4, &number, 4);
      if (nice_agent_send (end->agent, end->stream, COMPONENT, PACKET, packet) != PACKET)
        break; /* the socket is full: later */
      end->sent++;
    }
    done = done && end->sent == count && end->received == count;
  }
  if (done) {
    report ();
    return G_SOURCE_REMOVE;
  }
  return G_SOURCE_CONTINUE;
}

static void receive (NiceAgent *agent, guint stream, guint component, guint len, gchar *packet,
    gpointer data)
{
  End *end = data;
  guint32 number;

  if (len >= 20 && packet[0] == 0 && memcmp (packet + 4, COOKIE, 4) == 0) {
    end->checks++;
    return;
  }
  if (len != PACKET || (guint8) packet[0] != MARK || packet[1] != 1 - end->number) {
    printf ("agent=%d strange, %u bytes:", end->number, len);
    for (guint i = 0; i < len && i < 48; i++)
      printf (" %02x", (guint8) packet[i]);
    printf ("\n");
    end->strange++;
    return;
  }
  memcpy (&number, packet + 4, 4);
  number = GUINT32_FROM_BE (number);
  if (number >= count || end->seen[number])
    end->strange++;
  else {
    end->seen[number] = 1;
    end->received++;
  }
}

static void begin (void)
{
  printf ("sending\n");
  fflush (stdout);
  g_source_remove (patience);
  began = g_get_monotonic_time ();
  g_timeout_add (TICK_MS, tick, NULL);
  g_timeout_add_seconds ((guint) seconds + PATIENCE_S, give_up, "packets are missing");
}

static void state_changed (NiceAgent *agent, guint stream, guint component, guint state,
    gpointer data)
{
  End *end = data;

  printf ("agent=%d %s\n", end->number, nice_component_state_to_string (state));
  fflush (stdout);
  if (state == NICE_COMPONENT_STATE_FAILED)
    give_up ("a check failed");
  if (state != NICE_COMPONENT_STATE_READY || end->ready)
    return;
  end->ready = TRUE;
  if (ends[0].ready && ends[1].ready)
    begin ();
}

/* Uses the relays as they are. */
static void use_unchecked (End *end, NiceCandidate *remote)
{
  GSList *candidates = nice_agent_get_local_candidates (end->agent, end->stream, COMPONENT);
  NiceCandidate *local = candidates ? candidates->data : NULL;

  if (!local || !nice_agent_set_selected_pair (end->agent, end->stream, COMPONENT,
          local->foundation, remote->foundation))
    give_up ("the pair of relays was not taken");
  g_slist_free_full (candidates, (GDestroyNotify) nice_candidate_free);
}

/* Tells one agent what the other has: what signalling would carry. */
static void introduce (End *end, End *other)
{
  gchar *ufrag, *password;
  GSList *candidates = nice_agent_get_local_candidates (other->agent, other->stream, COMPONENT);

  for (GSList *each = candidates; each; each = each->next) {
    NiceCandidate *candidate = each->data;
    gchar address[NICE_ADDRESS_STRING_LEN];
    nice_address_to_string (&candidate->addr, address);
    printf ("agent=%d candidate type=%d transport=%d %s:%u\n", other->number, candidate->type,
        candidate->transport, address, nice_address_get_port (&candidate->addr));
  }
  fflush (stdout);
  nice_agent_get_local_credentials (other->agent, other->stream, &ufrag, &password);
  nice_agent_set_remote_credentials (end->agent, end->stream, ufrag, password);
  if (nice_agent_set_remote_candidates (end->agent, end->stream, COMPONENT, candidates) <= 0)
    give_up ("candidates were not taken");
  else if (mixed)
    use_unchecked (end, candidates->data);
  g_slist_free_full (candidates, (GDestroyNotify) nice_candidate_free);
  g_free (ufrag);
  g_free (password);
}

static void gathered (NiceAgent *agent, guint stream, gpointer data)
{
  End *end = data;

  end->gathered = TRUE;
  if (ends[0].gathered && ends[1].gathered) {
    introduce (&ends[0], &ends[1]);
    introduce (&ends[1], &ends[0]);
  }
}

static void set_up (End *end, int number, char **credentials, char **server)
{
  NiceRelayType type = relay_type (server[2]);
  gboolean udp = type == NICE_RELAY_TYPE_TURN_UDP;

  end->number = number;
  end->seen = g_new0 (guint8, count);
  end->agent = nice_agent_new (g_main_loop_get_context (loop), mode (credentials[0]));
  g_object_set (end->agent, "force-relay", TRUE, "upnp", FALSE, "ice-udp", udp, "ice-tcp", !udp,
      "controlling-mode", number == 0, NULL);
  g_signal_connect (end->agent, "candidate-gathering-done", G_CALLBACK (gathered), end);
  g_signal_connect (end->agent, "component-state-changed", G_CALLBACK (state_changed), end);
  end->stream = nice_agent_add_stream (end->agent, STREAMS);
  nice_agent_set_relay_info (end->agent, end->stream, COMPONENT, server[0], atoi (server[1]),
      credentials[1], credentials[2], type);
  nice_agent_attach_recv (end->agent, end->stream, COMPONENT, g_main_loop_get_context (loop),
      receive, end);
  if (!nice_agent_gather_candidates (end->agent, end->stream)) {
    printf ("agent=%d cannot gather\n", number);
    exit (1);
  }
}

int main (int argc, char **argv)
{
  if (argc != 12) {
    fprintf (stderr, "usage: agents SERVER PORT RELAY SECONDS COUNT MODE USER PASSWORD MODE USER "
        "PASSWORD\n");
    return 2;
  }
  loop = g_main_loop_new (NULL, FALSE);
  seconds = atof (argv[4]);
  count = (guint) atoi (argv[5]);
  mixed = mode (argv[6]) != mode (argv[9]);
  set_up (&ends[0], 0, argv + 6, argv + 1);
  set_up (&ends[1], 1, argv + 9, argv + 1);
  patience = g_timeout_add_seconds (PATIENCE_S, give_up, "the agents do not meet");
  g_main_loop_run (loop);
  for (int i = 0; i < 2; i++)
    g_object_unref (ends[i].agent);
  return status;
}
