//! Words that people use for one thing, where tools have another word for it.
//!
//! A person asks to "show the inbox" where the tool is called `mail.list-messages`. A word finds what its kin are called,
//! for less than the word itself would count. The families are of everyday English and of what tools are commonly for; a
//! word in none of them loses nothing.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::words::stem;

/// One family a line; a word may be in several.
const FAMILIES: &str = "
get fetch retrieve obtain read show view display check look see tell give find describe detail info information
list enumerate show get all every each browse overview
which list search find get
what get show list
where find search locate location
when time date schedule get
who user person contact get
how many count number total
another fresh extra additional new create add
rid delete remove
throw delete remove
wrong correct fix update edit repair
access permission share grant
let allow permit grant share
spreadsheet csv excel sheet export table
disk file write export
mention contain search
know get detail info
term word keyword
much calculate evaluate price cost
remind reminder task todo add notify
latitude longitude coordinate geocode
search find query lookup locate seek discover look filter
create make add new insert build compose set generate write register open start
delete remove erase drop destroy clear discard purge
cancel abort revoke void
update edit modify change set alter adjust patch amend correct rename revise
send post deliver dispatch submit forward transmit write message
notify alert remind tell warn inform
publish post release announce
start launch run execute trigger begin invoke boot
stop halt terminate kill end shut shutdown pause
restart reboot
calculate compute evaluate determine work solve figure calculator
convert transform change turn translate conversion converter
translate translation translator language
summarize summarise summary digest condense shorten abstract brief recap
write save store persist put export
copy duplicate clone replicate
move transfer relocate migrate
download export fetch pull save
upload push attach put
verify validate check confirm test
compare diff difference versus contrast
count number tally many total
sort order rank arrange
merge combine join concatenate unite
split separate divide break
compress zip archive pack shrink
extract unzip decompress unpack parse scrape pull
schedule plan book reserve arrange reservation booking appointment create
buy purchase order checkout
pay payment charge bill
refund reimburse return
approve accept confirm allow grant
reject decline deny refuse
assign allocate delegate give
subscribe follow
predict forecast estimate
recommend suggest suggestion recommendation advise similar
draw plot chart graph visualize visualise render diagram
resize scale shrink enlarge
crop trim cut
generate create produce make
detect recognize identify recognise find
analyze analyse analysis examine inspect investigate
monitor watch track observe follow
track trace follow status
block ban
invite add
share give
image picture photo photograph pic
email mail message inbox mailbox
file document doc
folder directory dir
person people contact member user
user account profile member
company organization organisation business firm enterprise
repository repo codebase
issue ticket bug problem
comment reply remark note feedback
message chat dm text sms
meeting event appointment calendar invite
weather temperature forecast rain climate sunny snow wind cold warm umbrella
price cost quote rate value worth
stock share equity ticker
currency exchange money fx usd eur dollar euro
crypto bitcoin coin cryptocurrency ethereum btc
flight plane airline fly airfare
hotel accommodation stay lodging room
restaurant food dining eat dinner lunch
movie film cinema
song music track tune
video clip movie
news headline article story
recipe cook dish meal ingredient
route direction navigation travel drive path
distance far long mile kilometer
location place address where geocode coordinate position
time clock hour timezone zone
site website page webpage url link
database db sql
password credential login
log history record audit trail
task todo reminder item
invoice bill receipt
product item goods article
customer client buyer
employee staff worker colleague
job vacancy position career
statistic stat metric analytic number figure insight
server host machine instance vm
setting config configuration preference option
sum total add
average mean avg
maximum max highest largest biggest
minimum min lowest smallest
root sqrt square
percent percentage share
phone telephone call mobile ring
doctor health medical physician
book novel
team group
result score outcome
definition meaning define dictionary mean
synonym thesaurus
sunrise sunset sun
color colour
package parcel shipment delivery shipping
pr pull merge
ci pipeline build workflow
deploy deployment release rollout ship
branch
ranking standing leaderboard table
holiday vacation leave
salary wage income pay
tax vat
loan mortgage credit
nutrition calorie diet
exercise workout fitness training
quiz question trivia
biggest top best popular trending
latest recent newest current
date day january february march april may june july august september october november december
date day monday tuesday wednesday thursday friday saturday sunday today tomorrow yesterday weekend
year month date period
doctor physician therapist psychologist psychiatrist dentist counselor specialist provider
therapist psychologist psychiatrist counselor therapy mental
lawyer attorney counsel legal
lawsuit litigation court legal case
car vehicle automobile auto
taxi cab ride
bus coach transit
train rail railway
rent lease hire rental
trip travel journey vacation itinerary
ticket seat admission
house home property apartment estate
speed velocity fast pace
odds probability chance likelihood
divisor factor gcd hcf
lcm multiple
derivative differentiate slope
integral integrate integration
area surface
length distance size
zip postal postcode zipcode
listen hear play
watch play stream
hungry eat food meal
cheap affordable inexpensive budget
painting artwork art paint
game match fixture
star rating review
birthday birth born
shop store market
teach learn course lesson
";

static KIN: LazyLock<BTreeMap<String, Vec<String>>> = LazyLock::new(|| {
    let mut kin: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for family in FAMILIES.lines() {
        let stems: Vec<String> = family.split_ascii_whitespace().map(stem).collect();
        for one in &stems {
            let others = stems.iter().filter(|other| *other != one);
            kin.entry(one.clone()).or_default().extend(others.cloned());
        }
    }
    kin.values_mut().for_each(|others| {
        others.sort_unstable();
        others.dedup();
    });
    kin
});

/// Returns the stems of other words for what `stem` stands for, sorted.
pub(super) fn kin(stem: &str) -> &'static [String] {
    KIN.get(stem).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kin_is_mutual() {
        for (one, others) in KIN.iter() {
            assert!(others.iter().all(|other| kin(other).contains(one) && other != one), "{one}: {others:?}");
        }
        assert!(kin("photo").contains(&stem("picture")) && kin("zygote").is_empty());
    }
}
