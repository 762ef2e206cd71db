# Runs usage_clients step by step (test/reliability/main.cpp describes the steps) on servers
# that a worker settles, and crashes a backend or a whole cluster.
package UsageClients;
use strict;
use warnings;

use IPC::Run qw(start pump finish timeout);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

# Configures a server for the clients, with a worker that settles often and in small rounds.
sub configure
{
	my ($node, $setting) = @_;
	$node->append_conf(
		'postgresql.conf', qq{
max_connections = 40
log_statement = none
shared_preload_libraries = 'usage_ledger'
usage_ledger.settle_databases = 'postgres'
usage_ledger.settle_interval = 50ms
usage_ledger.settle_rows = 200
$setting
});
	return;
}

# Starts clients of the servers that %environment or the test's environment names.
sub new
{
	my ($class, $arguments, %environment) = @_;
	my $self = bless { in => '', out => '', sum => {} }, $class;
	local %ENV = (%ENV, %environment);
	$self->{timer} = timeout(180);
	$self->{run} = start [ $ENV{USAGE_CLIENTS}, @$arguments ], '<', \$self->{in}, '>',
	  \$self->{out}, $self->{timer};
	return $self;
}

# Waits for a line that begins with a word, and returns the rest of the line.
sub await
{
	my ($self, $word) = @_;
	$self->{timer}->start(180);
	while (1)
	{
		return $1 if $self->{out} =~ s/\A(?:.*\n)*?$word:?(.*)\n//;
		die "the clients ended before they were \"$word\":\n$self->{out}\n"
		  unless $self->{run}->pumpable;
		pump $self->{run};
	}
}

sub go_on
{
	my ($self) = @_;
	$self->{in} .= "\n";
	return;
}

# Returns the errors that the clients met, as a hash of counts by SQLSTATE.
sub await_stop
{
	my ($self) = @_;
	my $errors = $self->await('stopped');
	return { $errors =~ /(\S[^=]*)=(\d+)/g };
}

# Makes the clients compare the ledger with their tally, before and after their retries.
sub check
{
	my ($self, $name) = @_;
	$self->go_on;
	my %figures = $self->await('sound') =~ /(\w+)=(\d+)/g;
	pass("$name: $figures{events} events, $figures{unacknowledged} not acknowledged, "
		  . "$figures{of_these_counted} of these counted nevertheless");
	$self->{sum}{$_} += $figures{$_} for keys %figures;
	return;
}

sub finish_all
{
	my ($self) = @_;
	finish $self->{run};
	return;
}

# Returns the state of a process and its parent, or nothing if there is no such process.
sub process_status
{
	my ($pid) = @_;
	open(my $file, '<', "/proc/$pid/stat") or return;
	my ($state, $parent) = (<$file> // '') =~ /\A\d+ \(.*\) (\S) (\d+) /s;
	close $file;
	return ($state, $parent);
}

# Waits until a condition that the kernel brings about holds.
sub await_kernel
{
	my ($what, $is_true) = @_;
	for (my $waited_ms = 0; !$is_true->(); $waited_ms++)
	{
		die "timed out waiting for $what\n" if $waited_ms > 60_000;
		usleep(1000);
	}
	return;
}

# Kills a backend, which makes the server restart all its processes.
sub crash_backend
{
	my ($node) = @_;
	my $victim = $node->background_psql('postgres', on_error_stop => 0);
	my $pid = $victim->query('SELECT pg_backend_pid()');
	PostgreSQL::Test::Utils::system_log('pg_ctl', 'kill', 'KILL', $pid) == 0
	  or die "could not kill backend $pid\n";
	$victim->{run}->finish;
	return;
}

# Kills all processes of a cluster together, and waits until they are gone.
sub crash
{
	my ($node) = @_;
	my $postmaster = $node->{_pid};

	# The postmaster must not fork while its children are listed. A child that is missed keeps
	# the shared memory, and the next start fails. The postmaster may be about to fork when the
	# signal is sent, so wait until it has stopped. It may also have ended by itself, after its
	# children.
	kill 'STOP', $postmaster;
	await_kernel("process $postmaster to stop",
		sub { ((process_status($postmaster))[0] // 'gone') =~ /\A(?:T|Z|gone)\z/ });
	my @children = grep { ((process_status($_))[1] // 0) == $postmaster }
	  map { m{(\d+)\z} } glob '/proc/[0-9]*';

	kill 'KILL', $postmaster, @children;
	$node->{_pid} = undef;
	# The next postmaster takes a dead one for alive until it is reaped.
	for my $pid ($postmaster, @children)
	{
		await_kernel("process $pid to go away", sub { !-e "/proc/$pid" });
	}
	return;
}

1;
