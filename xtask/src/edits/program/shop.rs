//! State made of plain data that lives as long as the process: items, accounts, a log, counters in statics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use crate::canary::Canary;

/// Lives in the state.
pub type Amount = u32;

const TAX_PERCENT: u64 = 7;
const MOST_ITEMS: usize = 20;
const SHELVES: [u64; 6] = [3, 5, 8, 13, 21, 34];
const GREETING: &str = "welcome";

pub static VISITS: AtomicU64 = AtomicU64::new(1000);
pub static SOLD: AtomicU64 = AtomicU64::new(0);
pub static LOG: Mutex<Vec<LogEntry>> = Mutex::new(Vec::new());

/// Lives in the state.
#[derive(Default)]
pub struct Shop {
    pub shelf_items: Vec<Item>,
    pub accounts: BTreeMap<String, Box<Account>>,
}

/// Lives in the state.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub canary: Canary,
    pub label_text: String,
    pub price_cents: u64,
    pub stock_count: Amount,
    pub item_kind: Kind,
}

/// Lives in the state.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Plain,
    Measured { width_mm: u16, height_mm: u16 },
    Bundle(Vec<u64>),
}

/// Lives in the state.
#[derive(Clone, Debug)]
pub struct Account {
    pub owner_name: String,
    pub balance_cents: i64,
    pub last_item: Option<Item>,
    pub account_canary: Canary,
}

/// Lives in the state.
#[derive(Clone, Debug)]
pub struct LogEntry {
    pub entry_number: u64,
    pub entry_text: String,
}

/// Lives within one input.
struct Bill {
    net_cents: u64,
    tax_cents: u64,
    rebate_cents: u64,
}

/// Lives within one input.
enum Order<'a> {
    Stock(&'a str),
    Sell(usize),
    Deposit(&'a str, i64),
    Report,
}

impl crate::Part for Shop {
    fn input(&mut self, number: u64, text: &str) -> String {
        let visit = VISITS.fetch_add(1, Relaxed);
        let answer = match order(number, text) {
            Order::Stock(label) => self.stock(number, label),
            Order::Sell(at) => self.sell(at, text),
            Order::Deposit(owner, cents) => self.deposit(owner, cents),
            Order::Report => self.report(),
        };
        note(visit, &answer);
        format!("{answer} visit {visit}")
    }

    fn check(&self) -> Result<(), String> {
        for item in &self.shelf_items {
            item.canary.intact("an item")?;
        }
        for account in self.accounts.values() {
            account.account_canary.intact("an account")?;
            if let Some(item) = &account.last_item {
                item.canary.intact("an account's item")?;
            }
        }
        Ok(())
    }
}

fn order(number: u64, text: &str) -> Order<'_> {
    let word = text.split(' ').find(|word| !word.is_empty()).unwrap_or("nobody");
    match number % 5 {
        0 | 1 => Order::Stock(word),
        2 => Order::Sell(number as usize / 5),
        3 => Order::Deposit(word, (number % 5000) as i64),
        _ => Order::Report,
    }
}

impl Shop {
    fn stock(&mut self, number: u64, label: &str) -> String {
        if self.shelf_items.len() >= MOST_ITEMS {
            let gone = self.shelf_items.remove(0);
            self.shelf_items.retain(|item| item.label_text != gone.label_text);
        }
        let item_kind = kind(number);
        let price_cents = 100 + number % 900 + surcharge(&item_kind);
        let stock_count = (number % 17) as Amount + 1;
        let label_text = format!("{label}-{}", shelf(number));
        let item = Item { canary: Canary::new(number), label_text, price_cents, stock_count, item_kind };
        let answer = format!("{GREETING} {} at {}", item.label_text, item.price_cents);
        self.shelf_items.push(item);
        answer
    }

    fn sell(&mut self, at: usize, buyer: &str) -> String {
        let count = self.shelf_items.len();
        let Some(item) = self.shelf_items.get_mut(at % count.max(1)) else {
            return "nothing to sell".to_owned();
        };
        let bill = bill(item, buyer.len() as u64);
        item.stock_count = item.stock_count.saturating_sub(1);
        let sold = item.clone();
        if item.stock_count == 0 {
            self.shelf_items.remove(at % count);
        }
        let owner = buyer.split(' ').next().unwrap_or("").to_owned();
        if let Some(account) = self.accounts.get_mut(&owner) {
            account.balance_cents -= bill.total() as i64;
            account.last_item = Some(sold);
        }
        format!("sold {} for {}, sale {}", bill.net_cents, bill.total(), SOLD.fetch_add(1, Relaxed))
    }

    fn deposit(&mut self, owner: &str, cents: i64) -> String {
        let account = self.accounts.entry(owner.to_owned()).or_insert_with(|| {
            let account_canary = Canary::new(owner.len() as u64);
            Box::new(Account { owner_name: owner.to_owned(), balance_cents: 0, last_item: None, account_canary })
        });
        account.balance_cents += cents;
        let balance = account.balance_cents;
        if self.accounts.len() > 12 {
            self.accounts.pop_first();
        }
        format!("{owner} has {balance}")
    }

    fn report(&self) -> String {
        let worth: u64 = self.shelf_items.iter().map(|item| item.price_cents * u64::from(item.stock_count)).sum();
        let debt: i64 = self.accounts.values().map(|account| account.balance_cents.min(0)).sum();
        let kinds: Vec<String> = self.shelf_items.iter().map(|item| describe(&item.item_kind)).collect();
        let owners: Vec<&str> = self.accounts.values().map(|account| account.owner_name.as_str()).collect();
        let last = LOG.lock().unwrap_or_else(PoisonError::into_inner).last().cloned();
        let last = last.map(|entry| format!("{}:{}", entry.entry_number, entry.entry_text)).unwrap_or_default();
        format!("worth {worth} debt {debt} kinds {} owners {} last {last}", kinds.join(","), owners.join(","))
    }
}

impl Bill {
    fn total(&self) -> u64 {
        (self.net_cents + self.tax_cents).saturating_sub(self.rebate_cents)
    }
}

fn bill(item: &Item, loyalty: u64) -> Bill {
    let net_cents = item.price_cents;
    let tax_cents = net_cents * TAX_PERCENT / 100;
    let rebate_cents = if loyalty > 12 { loyalty * 2 } else { 0 };
    Bill { net_cents, tax_cents, rebate_cents }
}

fn kind(number: u64) -> Kind {
    match number % 4 {
        0 => Kind::Plain,
        1 => Kind::Measured { width_mm: (number % 300) as u16, height_mm: (number % 77) as u16 },
        _ => Kind::Bundle((1..=number % 4).map(|nth| nth * number).collect()),
    }
}

fn surcharge(kind: &Kind) -> u64 {
    match kind {
        Kind::Plain => 0,
        Kind::Measured { width_mm, height_mm } => u64::from(*width_mm) + u64::from(*height_mm),
        Kind::Bundle(parts) => parts.len() as u64 * 50,
    }
}

fn describe(kind: &Kind) -> String {
    match kind {
        Kind::Plain => "plain".to_owned(),
        Kind::Measured { width_mm, height_mm } => format!("{width_mm}x{height_mm}"),
        Kind::Bundle(parts) => format!("{}", parts.iter().sum::<u64>()),
    }
}

fn shelf(number: u64) -> u64 {
    SHELVES[number as usize % SHELVES.len()]
}

fn note(entry_number: u64, text: &str) {
    let entry_text = text.chars().filter(|c| c.is_ascii_lowercase() || *c == ' ').take(24).collect();
    let mut log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    log.push(LogEntry { entry_number, entry_text });
    if log.len() > 8 {
        log.remove(0);
    }
}
