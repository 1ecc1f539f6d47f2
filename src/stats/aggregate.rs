//! Profiles as DataFusion aggregates: `profile_numeric(Float64)`, `profile_categorical(Utf8)` and
//! `profile_vector(entries, event time, prediction id)` (`aggregate/vector`), one function per layout. State and answer are the same one column, the encoded profile, so that what a `Partial` plan emits is
//! what the log carries and `Profile::merge` adds up.

mod vector;

use std::hash::Hash;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray, Float64Array, StringArrayType,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, TypeSignature, Volatility,
};

use super::layout::Layout;
use super::profile::Profile;

/// The aggregate that profiles one column under `layout`; numeric layouts take Float64, categorical ones text (Utf8,
/// LargeUtf8, Utf8View; dictionaries of text in physical plans), vector layouts either one fixed-size list of Float32
/// or as many Float64 as they have entries, and then the event time (Timestamp in ms) and the prediction id (Utf8),
/// which tell events with the same vector apart. Answers the encoded profile, Binary, never null.
pub fn profile_function(layout: &Layout) -> Arc<AggregateUDF> {
    let signature = match layout {
        Layout::Numeric(_) => Signature::exact(vec![DataType::Float64], Volatility::Immutable),
        Layout::Categorical(_) => Signature::one_of(
            [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View]
                .map(|text| TypeSignature::Exact(vec![text]))
                .to_vec(),
            Volatility::Immutable,
        ),
        Layout::Vector(layout) => Signature::one_of(
            vec![TypeSignature::Any(layout.dimension() + 2), TypeSignature::Any(3)],
            Volatility::Immutable,
        ),
    };
    Arc::new(AggregateUDF::from(ProfileFunction { layout: layout.clone(), signature }))
}

/// Equal layouts make equal functions: the planner may then compute a profile asked for twice once.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ProfileFunction {
    layout: Layout,
    signature: Signature,
}

impl AggregateUDFImpl for ProfileFunction {
    fn name(&self) -> &str {
        match self.layout {
            Layout::Numeric(_) => "profile_numeric",
            Layout::Categorical(_) => "profile_categorical",
            Layout::Vector(_) => "profile_vector",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }

    fn is_nullable(&self) -> bool {
        false
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "profile"), DataType::Binary, false))])
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn default_value(&self, _data_type: &DataType) -> Result<ScalarValue> {
        Ok(ScalarValue::Binary(Some(Profile::new(&self.layout).encode())))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        refuse_distinct(&args)?;
        Ok(Box::new(ProfileAccumulator { groups: ProfileGroups::of_size(&self.layout, 1) }))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        refuse_distinct(&args)?;
        Ok(Box::new(ProfileGroups::of_size(&self.layout, 0)))
    }
}

fn refuse_distinct(args: &AccumulatorArgs) -> Result<()> {
    if args.is_distinct { exec_err!("a profile of distinct values is not a profile: remove DISTINCT") } else { Ok(()) }
}

/// One profile per group.
#[derive(Debug)]
struct ProfileGroups {
    layout: Layout,
    profiles: Vec<Profile>,
}

impl ProfileGroups {
    fn of_size(layout: &Layout, groups: usize) -> Self {
        let mut all = Self { layout: layout.clone(), profiles: Vec::new() };
        all.grow(groups);
        all
    }

    fn grow(&mut self, groups: usize) {
        let layout = &self.layout;
        self.profiles.resize_with(groups.max(self.profiles.len()), || Profile::new(layout));
    }

    /// Adds row i of `values` to the profile `group_of(i)`, for the rows that `keep` lets pass.
    fn add(
        &mut self,
        values: &[ArrayRef],
        group_of: impl Fn(usize) -> usize,
        keep: Option<&BooleanArray>,
    ) -> Result<()> {
        if let Layout::Vector(layout) = self.layout.clone() {
            return vector::add(&mut self.profiles, &layout, values, group_of, keep);
        }
        let column = one_column(values)?;
        match self.layout.clone() {
            Layout::Vector(_) => no_such_group(),
            Layout::Numeric(layout) => {
                let Some(values) = column.as_any().downcast_ref::<Float64Array>() else {
                    return exec_err!("profile_numeric takes Float64, not {}", column.data_type());
                };
                self.add_floats(values, &layout, group_of, keep)
            }
            Layout::Categorical(_) => match column.data_type() {
                DataType::Utf8 => self.add_text(column.as_string::<i32>(), group_of, keep),
                DataType::LargeUtf8 => self.add_text(column.as_string::<i64>(), group_of, keep),
                DataType::Utf8View => self.add_text(column.as_string_view(), group_of, keep),
                DataType::Dictionary(_, text) if text.is_string() => {
                    let plain = cast(column, &DataType::Utf8)?;
                    self.add_text(plain.as_string::<i32>(), group_of, keep)
                }
                other => exec_err!("profile_categorical takes text, not {other}"),
            },
        }
    }

    fn add_floats(
        &mut self,
        values: &Float64Array,
        layout: &super::layout::NumericLayout,
        group_of: impl Fn(usize) -> usize,
        keep: Option<&BooleanArray>,
    ) -> Result<()> {
        let nulls = values.nulls().filter(|nulls| nulls.null_count() > 0);
        for (row, value) in values.values().iter().enumerate() {
            if !passes(keep, row) {
                continue;
            }
            let Some(Profile::Numeric(profile)) = self.profiles.get_mut(group_of(row)) else {
                return no_such_group();
            };
            if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                profile.add_nulls(1);
            } else {
                profile.add(*value, layout);
            }
        }
        Ok(())
    }

    fn add_text<'a>(
        &mut self,
        values: impl StringArrayType<'a>,
        group_of: impl Fn(usize) -> usize,
        keep: Option<&BooleanArray>,
    ) -> Result<()> {
        let Layout::Categorical(layout) = self.layout.clone() else { return no_such_group() };
        // Neighbouring rows often hold the same category: one comparison instead of one hash.
        let mut last: Option<(&str, usize)> = None;
        for (row, value) in values.iter().enumerate() {
            if !passes(keep, row) {
                continue;
            }
            let Some(Profile::Categorical(profile)) = self.profiles.get_mut(group_of(row)) else {
                return no_such_group();
            };
            match (value, last) {
                (None, _) => profile.add_nulls(1),
                (Some(value), Some((same, position))) if value == same => profile.add_position(position),
                (Some(value), _) => match layout.position(value) {
                    Some(position) => {
                        last = Some((value, position));
                        profile.add_position(position);
                    }
                    None => profile.add(value, &layout),
                },
            }
        }
        Ok(())
    }

    /// Merges row i of encoded profiles into the profile `group_of(i)`.
    fn merge(&mut self, states: &[ArrayRef], group_of: impl Fn(usize) -> usize) -> Result<()> {
        let column = one_column(states)?;
        let Some(states) = column.as_any().downcast_ref::<BinaryArray>() else {
            return exec_err!("the state of a profile is Binary, not {}", column.data_type());
        };
        for (row, state) in states.iter().enumerate() {
            let Some(state) = state else { continue };
            let decoded = Profile::decode(state, &self.layout).map_err(external)?;
            let Some(profile) = self.profiles.get_mut(group_of(row)) else { return no_such_group() };
            profile.merge(&decoded).map_err(external)?;
        }
        Ok(())
    }

    fn emit(&mut self, emit_to: EmitTo) -> ArrayRef {
        let emitted = emit_to.take_needed(&mut self.profiles);
        let mut builder = BinaryBuilder::with_capacity(emitted.len(), emitted.len() * 256);
        let mut bytes = Vec::new();
        for profile in &emitted {
            bytes.clear();
            profile.encode_into(&mut bytes);
            builder.append_value(&bytes);
        }
        Arc::new(builder.finish())
    }

    fn bytes(&self) -> usize {
        let of_profiles: usize = self.profiles.iter().map(Profile::allocated_bytes).sum();
        size_of::<Self>() + of_profiles + (self.profiles.capacity() - self.profiles.len()) * size_of::<Profile>()
    }
}

fn passes(keep: Option<&BooleanArray>, row: usize) -> bool {
    keep.is_none_or(|keep| keep.is_valid(row) && keep.value(row))
}

fn one_column(values: &[ArrayRef]) -> Result<&ArrayRef> {
    match values {
        [column] => Ok(column),
        other => exec_err!("a profile takes one column, not {}", other.len()),
    }
}

fn no_such_group<T>() -> Result<T> {
    exec_err!("a row of a group that was not announced, or of another kind than the layout")
}

fn external(error: super::profile::ProfileError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

impl GroupsAccumulator for ProfileGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.grow(total_num_groups);
        self.add(values, |row| group_indices[row], opt_filter)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.grow(total_num_groups);
        self.merge(values, |row| group_indices[row])
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.emit(emit_to)])
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        Ok(self.emit(emit_to))
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let Some(rows) = values.first().map(|column| column.len()) else { return exec_err!("a profile of no column") };
        let mut states = BinaryBuilder::with_capacity(rows, rows * 48);
        for row in 0..rows {
            // One profile at a time: a profile a row would be the batch times the bins.
            let mut single = Self::of_size(&self.layout, 1);
            let value: Vec<ArrayRef> = values.iter().map(|column| column.slice(row, 1)).collect();
            let keep = opt_filter.map(|filter| filter.slice(row, 1));
            single.add(&value, |_| 0, keep.as_ref())?;
            states.append_value(single.profiles.first().map(Profile::encode).unwrap_or_default());
        }
        Ok(vec![Arc::new(states.finish())])
    }

    fn size(&self) -> usize {
        self.bytes()
    }
}

/// The single group of a query without GROUP BY.
#[derive(Debug)]
struct ProfileAccumulator {
    groups: ProfileGroups,
}

impl ProfileAccumulator {
    fn encoded(&self) -> ScalarValue {
        ScalarValue::Binary(self.groups.profiles.first().map(Profile::encode))
    }
}

impl Accumulator for ProfileAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.groups.add(values, |_| 0, None)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.groups.merge(states, |_| 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.encoded()])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.encoded())
    }

    fn size(&self) -> usize {
        self.groups.bytes()
    }
}
