my (%count, $words);
open my $text, '<', 'text' or die $!;
while (<$text>) {
	$count{length $_}++ for split;
	$words++ if /(o)\1/i;
}
print join(',', map { "$_=$count{$_}" } sort { $a <=> $b } keys %count), ", $words\n";
my @primes = grep { my $n = $_; $n > 1 and not grep { $n % $_ == 0 } 2 .. sqrt $n } 1 .. 500;
print scalar @primes, " @primes[-3 .. -1]\n";
printf "%.15g %s\n", atan2(1, 1) * 4, join '', reverse split //, sprintf '%b', 12345;
open my $none, '<', 'none' or print "none: $!\n";
local $SIG{ALRM} = sub { die "alarm\n" };
eval { alarm 1; 1 while 1 };
print $@;
print STDERR "on stderr\n";
exit 5;
