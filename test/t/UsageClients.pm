# usage_clients at work, step by step (test/reliability/main.cpp has the steps), and
# the crash of a whole cluster.
package UsageClients;
use strict;
use warnings;

use IPC::Run qw(start pump finish timeout);
use Test::More;
use Time::HiRes qw(usleep);

# Clients of servers that the environment of the test names, or %environment.
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

# Waits for a line that begins with a word, and returns what follows the word.
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

# The errors that clients have met, as a hash of counts by SQLSTATE.
sub await_stop
{
	my ($self) = @_;
	my $errors = $self->await('stopped');
	return { $errors =~ /(\S[^=]*)=(\d+)/g };
}

# Has the clients compare the ledger with their books, before and after their retries.
sub check
{
	my ($self, $name) = @_;
	$self->go_on;
	my %figures = $self->await('sound') =~ /(\w+)=(\d+)/g;
	pass("$name: $figures{events} events, $figures{unacknowledged} not acknowledged, "
		  . "$figures{of_these_counted} of these counted all the same");
	$self->{sum}{$_} += $figures{$_} for keys %figures;
	return;
}

sub finish_all
{
	my ($self) = @_;
	finish $self->{run};
	return;
}

# Kills all processes of a cluster at once, and waits until they are gone.
sub crash
{
	my ($node) = @_;
	my $postmaster = $node->{_pid};
	my @children;
	kill 'STOP', $postmaster; # or it would have more by the time they are all known
	for my $path (glob '/proc/[0-9]*/stat')
	{
		open(my $file, '<', $path) or next;
		my $line = <$file> // '';
		close $file;
		push @children, $1 if $line =~ /\A(\d+) \(.*\) \S $postmaster /;
	}
	kill 'KILL', $postmaster, @children;
	$node->{_pid} = undef;
	for my $pid ($postmaster, @children)
	{
		# Until it is reaped a dead postmaster counts as alive for the next one.
		for (my $waited_ms = 0; -e "/proc/$pid"; $waited_ms++)
		{
			die "process $pid does not go away\n" if $waited_ms > 60_000;
			usleep(1000);
		}
	}
	return;
}

1;
